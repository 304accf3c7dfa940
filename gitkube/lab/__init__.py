"""A lab of pretend hosts on one Linux machine.

Each host is a network namespace with a root file system, processes, hostname, cgroups and an sshd of its
own: for everything that comes in over SSH it is a machine. `layout` decides names and addresses, `lab` keeps
the whole as asked, `boot` is what runs inside a host, `registry` holds the images. Needs root.
"""
