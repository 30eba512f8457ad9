"""The page that shows a run: verdict, tables, charts, integrity, lineage, the graph, and what is out of date."""
