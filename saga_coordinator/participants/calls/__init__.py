"""How a participant is called that has an inbound port: the contract, plain methods, and what keeps calls apart."""
