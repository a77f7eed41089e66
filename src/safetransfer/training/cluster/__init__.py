"""Training on many machines over Ray: one learner, any number of actors, nothing lost that lives.

`driver` starts both and watches them; `learning` and `collecting` are what they do, without Ray;
`actors` puts them into Ray's processes; `ledger` accounts for every step and every cost. Only
`connection`, `actors`, `pool` and `driver` import Ray, when they are used.
"""
