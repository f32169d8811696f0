"""The paper's ablation study: which rows there are, how they are trained, and what came out."""
