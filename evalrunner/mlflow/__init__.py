"""MLflow: scorers, targets, datasets, baselines and the export of runs, each reached through a plug-in hook."""
