"""`gitkube crds`: the definitions of others' kinds that come with gitkube, as YAML to commit or to apply."""

from __future__ import annotations

import click

from gitkube.definitions import BUNDLES, definitions_of


@click.command(epilog="Example:  gitkube crds gateway-api > platform/gateway-api.yaml")
@click.argument("bundle", type=click.Choice(list(BUNDLES)))
def crds(bundle: str) -> None:
    """Print CustomResourceDefinitions that are often needed, to commit them or for `kubectl apply -f -`.

    BUNDLE gateway-api: the Gateway API's standard channel (GatewayClass, Gateway, ListenerSet, HTTPRoute,
    GRPCRoute, TLSRoute, BackendTLSPolicy, ReferenceGrant).
    """
    from gitkube.server.yaml_text import to_yaml

    for definition in definitions_of(BUNDLES[bundle]):
        click.echo(b"---\n" + to_yaml(definition), nl=False)
