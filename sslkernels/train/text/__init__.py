"""Text as training data: from files to documents, tokens, and what BERT and GPT are shown."""
