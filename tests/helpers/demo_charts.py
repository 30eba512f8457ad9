"""The charts of the demonstration's tasks."""

from pathlib import Path

import yaml
from committed import committed_text

from common.sections import validate
from model.curves.charts import charts_of, curves_of, task_charts
from model.params.tasks import Tasks
from model.tasks.listing import listed

_PARAMS = yaml.safe_load(committed_text("params.yaml"))
TASKS = listed(validate(_PARAMS["tasks"], Tasks, Path("params.yaml"), "tasks"))
TASK_CHARTS = task_charts(TASKS)
CURVES = curves_of(TASKS)
CHARTS = charts_of(TASKS)
