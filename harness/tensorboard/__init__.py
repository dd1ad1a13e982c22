"""What TensorBoard shows: event files written from the store's records and a table, never by a trial itself.

Runs are named `<table>/<dataset>/<row>/<selection>/seed <n>`, search trials `<table>/<dataset>/<row>/search/<nn>`;
`<table>/<dataset>/curves` lays the rows over each other, `<table>/summary` has the table, and `studies` declares the
columns of the HParams page. The folder can be deleted at any time: it is written again from the store.
"""

from harness.tensorboard.server import serve
from harness.tensorboard.studies import write_studies
from harness.tensorboard.summary import write_summary
from harness.tensorboard.trials import TrialEntry, write_trials

__all__ = ["TrialEntry", "serve", "write_studies", "write_summary", "write_trials"]
