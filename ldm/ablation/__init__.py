"""The paper's Table 2: which rows, and their report."""
