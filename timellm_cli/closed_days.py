"""Public holidays of a country, a region or a stock exchange, from package `holidays`. Light until a place is named."""

import re
from datetime import date
from difflib import get_close_matches
from functools import cache

from timellm_cli.errors import did_you_mean, listed

_IN_BRACKETS = re.compile(r"\s*\([^()]*\)$")


def check_place(text: str) -> str:
    """The place as `holidays_of` takes it. Raises ValueError, with the names near it, for an unknown one.

    A place is a country (NZ), a country and its region (NZ-AUK), or a stock exchange (NYSE).
    """
    import holidays

    country, _, region = text.strip().partition("-")
    country = country.upper()
    countries = holidays.list_supported_countries(include_aliases=True)
    exchanges = holidays.list_supported_financial(include_aliases=True)
    if country in exchanges and country not in countries and not region:
        return country
    if country not in countries:
        raise _unknown(text.strip(), [*countries, *exchanges])
    if not region:
        return country
    regions = countries[country]
    by_name = {name.lower(): name for name in regions}
    if region.lower() not in by_name:
        which = f"its regions are {listed(regions, 60)}" if regions else "it has no regions"
        raise ValueError(f"no region of {country} is called '{region}'{did_you_mean(region, regions)}; {which}")
    return f"{country}-{by_name[region.lower()]}"


def _unknown(text: str, codes: list[str]) -> ValueError:
    from holidays.registry import COUNTRIES

    by_name = {name.replace("_", " "): entry[1] for name, entry in COUNTRIES.items()}
    meant = get_close_matches(text.lower(), by_name, n=1, cutoff=0.8)
    if meant:
        return ValueError(f"no country is called '{text}'; did you mean '{by_name[meant[0]]}'?")
    near = [code for code in codes if code[:1] == text[:1].upper() and len(code) != 3][:12]
    examples = listed(near or ["DE", "GB", "NZ", "US", "NYSE"], 12)
    return ValueError(
        f"no country or stock exchange '{text}' has known holidays{did_you_mean(text, codes)} "
        f"(a code such as {examples}; with a region: NZ-AUK)"
    )


@cache
def holidays_of(place: str, year: int) -> dict[date, tuple[str, ...]]:
    """The days of a year that are holidays, and the kinds of each: 'Christmas Day' also where it is observed later."""
    import holidays

    country, _, region = place.partition("-")
    if country in holidays.list_supported_countries(include_aliases=True):
        found = holidays.country_holidays(country, subdiv=region or None, years=year)
    else:
        found = holidays.financial_holidays(country, years=year)
    return {
        day: tuple(sorted({_IN_BRACKETS.sub("", name) for name in found.get_list(day)}))
        for day in sorted(found)
        if day.year == year
    }
