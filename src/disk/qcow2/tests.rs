//! Tests of headers, tables and reference counts that are made by hand.
