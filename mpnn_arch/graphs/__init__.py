"""Relational graphs: what they are, how they are made, and how they are measured."""

from mpnn_arch.graphs.relational_graph import RelationalGraph

__all__ = ["RelationalGraph"]
