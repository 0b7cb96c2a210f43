"""The AUTOMATIC1111 dialect: `/sdapi/v1`."""
