"""The pods' name server: `message` is the format, `zone` the answers, `server` the sockets, `resolv` what a
pod's /etc/resolv.conf says. Follows Kubernetes' DNS specification 1.1.0.
"""
