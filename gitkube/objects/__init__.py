"""What a thing is: pure functions on plain dicts, without IO, clock or chance of their own.

`kinds` lists what the API serves; `schema` is the shape of each; `defaults` and `normalise` make what came in
complete and canonical; `validation` and `unknown` say what is wrong with it; `patch` changes it. The others
read: `meta`, `conditions`, `pods`, `labels`, `fields`, `quantity`; `tables` shows it as kubectl does.
"""
