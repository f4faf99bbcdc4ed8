"""The deployer's HTTP routes: how things stand, and what an operator does about it."""

from gyral.deployer.api.groups import groups
from gyral.deployer.api.orders import orders
from gyral.deployer.api.views import views

__all__ = ["groups", "orders", "views"]
