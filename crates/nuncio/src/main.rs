//! nuncio
fn main() {}
