"""Measurements of quality: results, ablations, types that training did not see, comparisons."""
