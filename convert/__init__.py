"""Host side of rkyolo: from a YOLOv5 checkpoint to a bundle. Never imported by runtime."""
