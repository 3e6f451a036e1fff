"""Small changes to the pure folders, which `scripts/mutate` asks for, to see whether a test notices each.

Each mutant is a source file with one change: a comparison, a limit, an operator, a condition, a statement that is
missing. The tests of the pure folders run against it until one fails, which kills the mutant. A mutant that survives is
a change that no test notices: either a test is missing, or the change makes no difference. Those that make none are in
`equivalent.txt`, each with its reason, and do not count.
"""
