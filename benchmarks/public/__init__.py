"""Public numbers: our models beside those of other libraries on public data, same splits, same metrics."""
