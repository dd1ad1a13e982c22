"""Everything that is a model: plain torch, without Ray, tables or a store."""
