"""gitkube: git holds what should run; the machines in your SSH inventory run exactly that.

Kept free of imports: this file also travels inside the agent's zipapp and is read by Python 3.9.
"""

__version__ = "0.1.0"
