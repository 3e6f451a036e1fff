"""The challenges that are answered, a folder each. Nothing else knows their names."""
