"""Training on many machines over Ray: one learner, any number of actors, nothing lost that lives.

`driver` starts both and watches them. `learning` and `collecting` are what they do, without Ray;
`actors` puts them into Ray's processes, `pool` and `placement` find room for those. `ledger`
accounts for every step and every cost. Ray is an optional extra: only `connection`, `actors`,
`pool`, `placement` and `driver` import it, when they are used.
"""
