"""What is done with a trained model: evaluate, export, retrain, reproduce, show."""
