"""Results of many pictures as files that other tools read: COCO, YOLO, LabelMe, CSV, JSONL, PNG, FiftyOne.

A writer takes pictures one at a time and keeps a record of each, whole or not at all. What it writes
at the end follows from the records alone, so a run that was cut off and went on gives the same bytes.
"""

from superlink.decoders.writers.opening import FORMATS, open_writer
from superlink.decoders.writers.writer import Writer

__all__ = ["FORMATS", "Writer", "open_writer"]
