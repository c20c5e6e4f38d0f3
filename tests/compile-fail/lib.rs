//! Nothing: the cases are in `cases`, the test that compiles them is in `tests`.
