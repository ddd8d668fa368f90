"""How sagas, lists, definitions and participants look to people: the messages of the contract that answers are made of."""
