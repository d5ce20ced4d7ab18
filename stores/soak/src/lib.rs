//! An empty library: this package contains only tests, which use all stores.
