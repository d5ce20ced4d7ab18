//! Nothing: this package has only tests, which use all stores.
