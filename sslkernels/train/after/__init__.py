"""What comes after training: encoders for programs that have never heard of this package."""
