"""ActionFormer: a pyramid of transformers that classifies every moment and regresses its segment."""
