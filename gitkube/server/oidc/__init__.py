"""Logins by an identity provider (OpenID Connect): its ID tokens make their bearers users.

`tokens.py` judges a token by the provider's keys, purely; `provider.py` fetches these keys and keeps them
fresh. The provider is only asked for keys, never about a person.
"""
