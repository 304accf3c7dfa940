"""What runs on a host: the agent that makes the pods it was told about exist, and says what it sees.

The agent is a daemon with state on disk and no master it needs: it takes whole desired state over a unix
socket (`agent`, `link`), keeps it, and lets one level-triggered loop per pod (`pods`) bring the host to it,
with or without anybody connected. Deciding (`decide`, `status`, `oci`, `env`) is pure; acting (`sandbox`,
`containers`, `images`, `volumes`, `exec`) is thin and may be killed at any instant: crun and conmon hold
the containers, and what they recorded is read again at the next start.

Standard library only, for any Python since 3.9; imports nothing of the control
side but `gitkube.wire`.
"""
