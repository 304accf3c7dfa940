"""`gitkube serve`: the control plane, in the foreground, until it is told to stop."""

from __future__ import annotations

import os
import sys
from collections.abc import MutableMapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gitkube.cli.hollow import hollow_options, hollow_settings
from gitkube.cli.serve_options import etcd_options, oidc_options
from gitkube.cli.shared import default_data_dir
from gitkube.store.config import DEFAULT_QUOTA_BYTES

if TYPE_CHECKING:
    from gitkube.fleet.hosts import Inventory
    from gitkube.server.settings import ControlPlaneSettings
    from gitkube.sim.hollow.hosts import HollowHosts


_MIB = 1024 * 1024


@click.command(
    epilog="Example:  gitkube serve --inventory inventory.yaml --repo ~/cluster.git --listen 0.0.0.0:6443"
)
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=lambda: default_data_dir(os.environ),
    show_default="~/.local/state/gitkube",
    help="The store, keys and certificates. Keep it on a disk you trust.",
)
@click.option(
    "--inventory",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The hosts: gitkube's form or an Ansible YAML inventory.",
)
@hollow_options
@click.option(
    "--repo",
    type=click.Path(file_okay=False, path_type=Path),
    default=None,
    help="Bare repository to push to, made if absent.  [default: repo.git in the data directory]",
)
@click.option("--branch", default="main", show_default=True, help="The branch that deploys.")
@click.option("--listen", default="127.0.0.1:6443", show_default=True, help="Address and port of the API.")
@click.option(
    "--advertise",
    multiple=True,
    metavar="NAME",
    help="Name or address by which others reach the API; may be repeated. The first is in the kubeconfig.",
)
@click.option(
    "--cluster-cidr",
    default=None,
    metavar="NETWORK",
    help="The pods' network, of which each host gets a /24. Choose one that you use nowhere else, once and "
    "for all controllers.  [default: 10.42.0.0/16]",
)
@click.option(
    "--service-cidr",
    default="10.43.0.0/16",
    show_default=True,
    metavar="NETWORK",
    help="From which Services get their addresses; as for the pods' network.",
)
@click.option(
    "--kubeconfig",
    type=click.Path(dir_okay=False, path_type=Path),
    default=None,
    help="Where to write the administrator's kubeconfig.  [default: in the data directory]",
)
@click.option("--name", default="", help="Of this controller.  [default: of the join file, or the host's]")
@click.option(
    "--peer-listen", default="", metavar="HOST:PORT", help="Where other controllers' members reach this one."
)
@click.option(
    "--peer-advertise", default="", metavar="HOST:PORT", help="What they dial, when it is not --peer-listen."
)
@click.option(
    "--join",
    type=click.Path(dir_okay=False, path_type=Path),
    default=None,
    help="Begin as a member of a cluster that runs, with the file of `gitkube store add`.",
)
@click.option(
    "--force-new-cluster",
    is_flag=True,
    help="Forget all other controllers, who are lost for good, and go on alone with what is here.",
)
@click.option(
    "--etcd-listen", default="", metavar="HOST:PORT", help="Open a door that speaks etcd's protocol (v3)."
)
@click.option(
    "--store-quota",
    type=click.IntRange(min=64),
    default=DEFAULT_QUOTA_BYTES // _MIB,
    show_default=True,
    metavar="MIB",
    help="How much the store may hold, history included; it lies in memory, too.",
)
@click.option(
    "--token-file",
    type=click.Path(dir_okay=False, path_type=Path),
    default=None,
    help="Fixed tokens, lines of token,user,uid,groups. Give it to every controller.",
)
@click.option(
    "--encrypt",
    multiple=True,
    metavar="KIND",
    help="A kind that lies encrypted in the store, beside Secrets, such as configmaps; may be repeated. "
    "none: not even Secrets. Tell every controller the same.",
)
@etcd_options
@oidc_options
@click.option(
    "--audit-log",
    type=click.Path(dir_okay=False, path_type=Path),
    default=None,
    help="Write who asks what of the API, as lines of JSON (audit.k8s.io/v1).",
)
@click.option(
    "--audit-policy",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    default=None,
    help="What is written: an audit.k8s.io/v1 Policy.  [default: metadata of all but health checks]",
)
@click.option(
    "--audit-log-size",
    type=click.IntRange(min=1),
    default=100,
    show_default=True,
    metavar="MIB",
    help="The audit log is put aside at this size, and begun anew.",
)
@click.option(
    "--audit-log-keep", type=click.IntRange(min=0), default=10, show_default=True, metavar="FILES",
    help="Of those that were put aside, so many stay.",
)  # fmt: skip
@click.option(
    "--eviction-after",
    type=click.IntRange(min=0),
    default=300,
    show_default=True,
    metavar="SECONDS",
    help="How long pods stay assigned to a host out of reach, unless they say so themselves.",
)
@click.option(
    "--log-format", type=click.Choice(["text", "json"]), default=None, help="[default: text on a tty]"
)
def serve(
    data_dir: Path,
    inventory: Path | None,
    hollow: int | None,
    delays_ms: dict[str, int],
    repo: Path | None,
    branch: str,
    listen: str,
    advertise: tuple[str, ...],
    cluster_cidr: str | None,
    service_cidr: str,
    kubeconfig: Path | None,
    name: str,
    peer_listen: str,
    peer_advertise: str,
    join: Path | None,
    force_new_cluster: bool,
    etcd_listen: str,
    store_quota: int,
    token_file: Path | None,
    encrypt: tuple[str, ...],
    etcd_servers: str,
    etcd_cafile: Path | None,
    etcd_certfile: Path | None,
    etcd_keyfile: Path | None,
    oidc_issuer_url: str,
    oidc_client_id: str,
    oidc_username_claim: str,
    oidc_username_prefix: str,
    oidc_groups_claim: str,
    oidc_groups_prefix: str,
    oidc_ca_file: Path | None,
    audit_log: Path | None,
    audit_policy: Path | None,
    audit_log_size: int,
    audit_log_keep: int,
    eviction_after: int,
    log_format: str | None,
) -> None:
    """Run the control plane: API, controllers, scheduler, fleet links and git. Needs no root."""
    host, port = _address(listen)
    _configure_logs(log_format or ("text" if sys.stderr.isatty() else "json"))
    from gitkube.server.networks import CLUSTER_CIDR
    from gitkube.server.oidc.tokens import OidcSettings
    from gitkube.server.settings import ControlPlaneSettings, EtcdServers, SettingsError, check_settings

    if bool(oidc_issuer_url) != bool(oidc_client_id):
        raise click.UsageError("--oidc-issuer-url and --oidc-client-id belong together")
    hosts: HollowHosts | None = None
    where: Path | Inventory
    if inventory is not None and hollow is None:
        where = inventory
    elif hollow is not None and inventory is None:
        hosts = _hollow_hosts(hollow, delays_ms, data_dir)
        where = hosts.inventory()
    else:
        raise click.UsageError("give the hosts: --inventory FILE, or --hollow N for pretend ones")
    settings = ControlPlaneSettings(
        data_dir=data_dir,
        inventory=where,
        cluster_cidr=cluster_cidr or (hosts.cluster_cidr if hosts is not None else CLUSTER_CIDR),
        service_cidr=service_cidr,
        repository=repo or data_dir / "repo.git",
        branch=branch,
        listen_host=host,
        listen_port=port,
        advertise=advertise,
        kubeconfig=kubeconfig,
        eviction_after_s=eviction_after,
        name=name,
        peer_listen=peer_listen,
        peer_advertise=peer_advertise,
        etcd=EtcdServers(tuple(etcd_servers.split(",")), etcd_cafile, etcd_certfile, etcd_keyfile)
        if etcd_servers
        else None,
        door_listen=etcd_listen,
        store_quota_bytes=store_quota * _MIB,
        join=join,
        token_file=token_file,
        encrypt=encrypt,
        oidc=OidcSettings(
            oidc_issuer_url,
            oidc_client_id,
            oidc_username_claim,
            oidc_username_prefix,
            oidc_groups_claim,
            oidc_groups_prefix,
        )
        if oidc_issuer_url
        else None,
        oidc_ca_file=oidc_ca_file,
        audit_log=audit_log,
        audit_policy=audit_policy,
        audit_log_bytes=audit_log_size * _MIB,
        audit_log_kept=audit_log_keep,
        force_new_cluster=force_new_cluster,
    )
    try:
        check_settings(settings)
    except SettingsError as error:
        raise click.UsageError(str(error)) from error
    raise SystemExit(_run(settings, hosts))


def _hollow_hosts(count: int, delays_ms: dict[str, int], data_dir: Path) -> HollowHosts:
    from gitkube.clock import SystemClock
    from gitkube.sim.hollow.hosts import HollowHosts

    return HollowHosts(
        count,
        settings=hollow_settings(delays_ms),
        clock=SystemClock(),
        faults=data_dir / "hollow.json",
        disk=data_dir / "hollow-ended.jsonl",
    )


def _address(listen: str) -> tuple[str, int]:
    from gitkube.store.addresses import AddressError, split_address

    try:
        host, port = split_address(listen)
    except AddressError as error:
        raise click.BadParameter(
            f"{listen!r} is not ADDRESS:PORT, such as 127.0.0.1:6443", param_hint="--listen"
        ) from error
    return host or "0.0.0.0", port


def _configure_logs(form: str) -> None:
    from gitkube.logs import structlog

    renderer = (
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
        if form == "text"
        else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            *([_without_controls] if form == "text" else []),
            renderer,
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


def _without_controls(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """What hosts and pods say ends up in logs; none of it may steer the terminal or pretend to be a line."""
    from gitkube.gitops.problem import printable

    for key, value in event.items():
        if key == "exception":
            event[key] = "\n".join(printable(line) for line in str(value).split("\n"))
        elif isinstance(value, str):
            event[key] = printable(value)
    return event


def _run(settings: ControlPlaneSettings, hosts: HollowHosts | None) -> int:
    import asyncio
    import signal

    import structlog
    import uvloop

    from gitkube.server.control_plane import ControlPlane

    log = structlog.get_logger()

    async def work() -> None:
        task = asyncio.current_task()
        assert task is not None
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, task.cancel)
        plane = ControlPlane(settings, dialer=hosts)
        async with asyncio.TaskGroup() as tasks:
            if hosts is not None:
                tasks.create_task(hosts.run(), name="hollow-hosts")
            await plane.run(lambda url: log.info("ready", url=url))

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(work())
    except asyncio.CancelledError:
        log.info("stopped")
        return 0
    except BaseExceptionGroup as group:
        for error in _leaves(group):
            _tell(error, log)
        return 1
    except Exception as error:
        _tell(error, log)
        return 1
    return 0


def _tell(error: BaseException, log: Any) -> None:
    """The one place where what stops the control plane becomes a sentence. Errors of our own are sentences
    already; where another one was raised is in the log."""
    is_ours = type(error).__module__.partition(".")[0] == "gitkube"
    kind = type(error).__name__
    raised_at = _raised_at(error)
    log.critical(
        "failed", error=str(error), kind=kind, raised_at=raised_at, exc_info=None if is_ours else error
    )
    click.echo(f"gitkube serve: {error}", err=True)


def _raised_at(error: BaseException) -> str:
    """File and line, such as `store/remote.py:359`."""
    at = error.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    if at is None:
        return "unknown"
    return f"{at.tb_frame.f_code.co_filename.rpartition('/gitkube/')[2]}:{at.tb_lineno}"


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    found: list[BaseException] = []
    for error in group.exceptions:
        found += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found
