"""What `timellm import` reads: commands and scripts of the original, and the profiles that come of them. Light."""
