"""The summary of a run, its figures and its report page."""

from .charts import accuracy_chart as accuracy_chart
from .charts import bits_chart as bits_chart
from .charts import methods_chart as methods_chart
from .charts import save_chart as save_chart
from .choices import Choice as Choice
from .choices import ChoicesPage as ChoicesPage
from .choices import Column as Column
from .choices import pareto_chart as pareto_chart
from .choices import write_choices as write_choices
from .explorer import explore as explore
from .page import ReportData as ReportData
from .page import write_report as write_report
from .readout import AdcHistogram as AdcHistogram
from .readout import VoltageLoss as VoltageLoss
from .readout import worst_voltage_loss as worst_voltage_loss
from .side_by_side import write_side_by_side as write_side_by_side
from .summary import Summary as Summary
from .summary import SummaryError as SummaryError
from .summary import read_summary as read_summary
from .summary import write_summary as write_summary
