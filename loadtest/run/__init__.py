"""A load run: one scenario, from the first registration to the verdict.

A leader (`leader`) starts device processes (`devices`) and app-server processes (`app_servers`),
which speak only the outside interfaces of a gateway, and tells them what to do (`protocol`). They
report twice a second; `tally` makes curves of that, `live` shows them, `account` judges in the end.
"""
