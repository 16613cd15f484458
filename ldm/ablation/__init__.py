"""The ablation study, Table 2 of the paper: settings of its rows, pictures and numbers, report."""
