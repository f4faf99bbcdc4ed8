"""The deployer's HTTP routes: what stands how, and what operators order."""

from gyral.deployer.api.orders import orders
from gyral.deployer.api.views import views

__all__ = ["orders", "views"]
