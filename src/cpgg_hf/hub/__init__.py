"""Publishing on the Hub: data policy, search for identifiers, push, and `push_to_hub` of models and pipeline."""
