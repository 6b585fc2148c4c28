"""ZB-H1 (Qi et al., arXiv:2401.10241, section 2.2): 1F1B's memory, and a third of its bubble.

With equal stages the bubble is (p - 1)(T_F + T_B - T_W), T_B without weight gradients.
"""

from __future__ import annotations

from simulator.schedules.interleaved_zero_bubble import interleaved_zero_bubble
from simulator.schedules.schedule import Schedule

SCHEDULE = Schedule(
    name="zb-h1", order=interleaved_zero_bubble, source="arXiv:2401.10241", splits_backward=True
)
