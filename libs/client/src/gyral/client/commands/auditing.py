"""`gyral audit`."""

import argparse

from gyral.client.addresses import home, variables
from gyral.client.audit import checking
from gyral.client.commands import output


async def audit(given: argparse.Namespace) -> int:
    """Check every invariant; 0 only if none is violated."""
    findings = await checking.check(variables(home()), given.sent)
    rows = [
        {
            "invariant": each.name,
            "violations": each.violations,
            "examples": list(each.examples),
        }
        for each in findings
    ]
    output.rows(rows, ("invariant", "violations", "examples"), given.output)
    return 1 if any(each.violations for each in findings) else 0
