"""What people and scripts see: formats, tables, and the picture of a saga. Everything here is made of plain values."""
