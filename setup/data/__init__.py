"""Training data: the committed sample, a dataset of the Hugging Face hub, or a file of your own.

from setup.data import DataPlan, describe_data, prepare_data

plan = DataPlan(source="HuggingFaceH4/ultrachat_200k", split="train_sft[:1%]")
print("\\n".join(describe_data(plan)))  # what would be done
prepared = prepare_data(plan)  # prepared.train, prepared.test, counts
"""

from .lint import LintReport, Problem, lint_files
from .plan import DataPlan, Prepared, data_plan, describe_data
from .prepare import prepare_data
from .provenance import AGAIN, ForgottenSourceError, PreparedSplit, prepared_split
from .screen import describe_summary

__all__ = [
    "AGAIN",
    "DataPlan",
    "ForgottenSourceError",
    "LintReport",
    "Prepared",
    "PreparedSplit",
    "Problem",
    "data_plan",
    "describe_data",
    "describe_summary",
    "lint_files",
    "prepare_data",
    "prepared_split",
]
