"""Training on many machines over Ray: one learner, any number of actors, nothing lost that lives.

`train` is the way in, `driver` starts all and watches it. `learning` and `collecting` are what
learner and actors do, without Ray; `actors` puts them into Ray's processes, `pool` and `placement`
find room for those. `ledger` accounts for every step and every cost. Ray is an optional extra:
`connection` says so where it is missing, and `train` imports nothing of it before it is needed.
"""
