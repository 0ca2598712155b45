"""What a trained model is, on disk and running."""
