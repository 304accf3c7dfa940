"""Options of `gitkube serve` that belong together and are named as kube-apiserver names them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def etcd_options(command: F) -> F:
    """Adds what says where an external etcd is, and with which certificates it is reached."""
    for add in reversed(_ETCD):
        command = add(command)
    return command


def oidc_options(command: F) -> F:
    """Adds the options of an identity provider."""
    for option, default, meaning in reversed(_OIDC):
        command = click.option(option, default=default, show_default=bool(default), help=meaning)(command)
    return click.option(
        "--oidc-ca-file",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        default=None,
        help="Authorities to trust for the provider's certificate.  [default: the system's]",
    )(command)


_ETCD = (
    click.option(
        "--etcd-servers",
        default="",
        metavar="URL,...",
        help="Keep everything in this etcd instead of the embedded store, such as https://10.0.0.1:2379.",
    ),
    *(
        click.option(name, type=click.Path(exists=True, dir_okay=False, path_type=Path), help=text)
        for name, text in (
            ("--etcd-cafile", "Who signed the certificates of --etcd-servers."),
            ("--etcd-certfile", "Our certificate for them."),
            ("--etcd-keyfile", "Its key."),
        )
    ),
)
_OIDC = (
    ("--oidc-issuer-url", "", "Let people log in with tokens of this OpenID provider (https)."),
    ("--oidc-client-id", "", "For whom its tokens must be (their audience)."),
    ("--oidc-username-claim", "sub", "The claim that is the user's name."),
    ("--oidc-username-prefix", "", "Put before it; - is none.  [default: the issuer's URL and #]"),
    ("--oidc-groups-claim", "", "The claim that has the user's groups."),
    ("--oidc-groups-prefix", "", "Put before each of them."),
)
