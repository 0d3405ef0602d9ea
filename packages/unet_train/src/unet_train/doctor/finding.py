"""What a check found, and the one sentence that all findings come to.

>>> black = Finding("threshold", "fault", "it is 0.99", "Set it to 0.5.")
>>> conclude([Finding("gpu", "ok", "one is used"), black])
'The masks are bad because it is 0.99. Set it to 0.5.'
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal

Verdict = Literal["ok", "warning", "fault"]


@dataclasses.dataclass(frozen=True)
class Finding:
    """What one check found.

    ```python
    from unet_train.doctor import Finding

    finding = Finding("threshold", "warning", "0.3 gives IoU 0.9", "Use that.")
    print(finding.text, finding.cure)
    ```

    Attributes:
      check: Its name.
      verdict: "fault" if the masks cannot be good with it, "warning" if it is worth a
        look.
      text: What was seen, a clause that may stand after "because".
      cure: What to do about it, in whole sentences; empty if all is well.
      spoils: What a fault does, "The masks are bad" unless something else.
    """

    check: str
    verdict: Verdict
    text: str
    cure: str = ""
    spoils: str = "The masks are bad"


def conclude(findings: Sequence[Finding], scores: str = "") -> str:
    """One sentence: nothing is broken, or the first cause and its cure.

    That nothing is broken does not make a run good, so its scores are named besides.

    ```python
    from unet_train.doctor import Finding, conclude

    fault = Finding("values", "fault", "a mask has the value 7", "Name it.")
    print(conclude([fault]))
    ```

    Args:
      findings: In the order of causes: a fault may be the cause of those behind it.
      scores: Of a run, a clause; empty if there is none.
    """
    for finding in findings:
        if finding.verdict == "fault":
            return f"{finding.spoils} because {finding.text}. {finding.cure}"
    warned = [finding.check for finding in findings if finding.verdict == "warning"]
    look = f" Worth a look: {', '.join(warned)}." if warned else ""
    if scores:
        quality = f"How good it is is another matter: {scores}."
        return f"Nothing is broken.{look} {quality}"
    if warned:
        return f"Healthy: no fault was found.{look}"
    return f"Healthy: all {len(findings)} checks passed."
