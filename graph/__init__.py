"""What keeps dvc.yaml true: the check of declarations and results, the seal around each stage, the cost of an edit.

Nothing here takes part in a computation: it can stop a stage, never change what it writes. So it is no stage's dependency,
and mending it reruns nothing.
"""
