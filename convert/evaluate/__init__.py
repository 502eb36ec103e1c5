"""Measure a model on labelled pictures: YOLOv5's own table, for one backend or several."""
