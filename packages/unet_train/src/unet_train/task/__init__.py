"""What is learned: the task, its losses, its optimizer, how its layers compute."""
